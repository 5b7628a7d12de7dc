#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Push a saved BN-VAE to the Hub, in one commit: model, processor, the code that loads them, README.md and pictures.

    push_to_hub.py runs/bnvae --repo_id user/name --dry_run
    push_to_hub.py runs/bnvae --repo_id user/name --private --tag v1

`--dry_run` lists what would be uploaded and what would not, and asks neither for a token nor for a network. A
repository that holds a BN-VAE is updated, one that holds another model is refused.
"""

import argparse

from hf_bnvae.hub.contents import list_files, render_contents, require_whole_model
from hf_bnvae.hub.push import push_folder, render_pushed
from hf_bnvae.hub.target import HubTarget
from hf_bnvae.reporting.report import loading_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="Folder of a saved model, of a run, or of a checkpoint.")
    parser.add_argument("--repo_id", required=True, help="Where to: user/name, or a name in your own namespace.")
    parser.add_argument("--private", action="store_true", help="Create a private repository.")
    parser.add_argument("--branch", "--revision", default="main", help="Branch; begun at main if it is not there.")
    parser.add_argument("--tag", help="A tag to give to the commit.")
    parser.add_argument("--commit_message", default="Upload model", help="(Upload model)")
    parser.add_argument("--token", help="A token that may write there; that of `hf auth login` if not given.")
    parser.add_argument("--dry_run", action="store_true", help="List the files, and do nothing.")
    args = parser.parse_args()
    target = HubTarget(args.repo_id, args.branch, args.private or None, args.token)
    try:
        target.require_name()
        contents = list_files(args.folder)
        require_whole_model(contents)
        print(render_contents(contents))
        if args.dry_run:
            print("\nThe model card would be written to README.md, unless one that was written by hand is there.")
            print(f"\nNothing was uploaded to {args.repo_id} ({args.branch}): this was a dry run.")
            return
        pushed = push_folder(args.folder, target, args.commit_message, args.tag)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"\n{render_pushed(pushed)} To load it:\n\n{loading_lines(pushed.repo_id, args.tag or pushed.branch)}")


if __name__ == "__main__":
    main()
