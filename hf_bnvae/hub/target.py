# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Where a model is pushed to, and errors that explain what the Hub refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from transformers import TrainingArguments

from .._version import __version__


class HubError(OSError):
    """The Hub refused something or could not be reached. The message says what happened and what to do."""


@dataclass(frozen=True)
class HubTarget:
    """
    A branch of a repository to push to.

    Args:
        repo_id (`str`): `user/name`, or the name alone for a repository of the token's user.
        branch (`str`, *optional*, defaults to `"main"`): The branch. If it does not exist, it starts from main.
        private (`bool`, *optional*): Create a private repository. An existing repository must then be private.
        token (`str`, *optional*): A token that may write there. Without it, the token of `hf auth login` is used.
    """

    repo_id: str
    branch: str = "main"
    private: bool | None = None
    token: str | None = None

    def require_name(self) -> None:
        """Refuse a `repo_id` that is not a valid name.

        Raises:
            HubError: if the name is not valid. The message says what a valid name is.
        """
        with explained(self):
            validate_repo_id(self.repo_id)

    @classmethod
    def of_training(cls, args: TrainingArguments) -> "HubTarget":
        """The target that the arguments of a training name."""
        repo_id = args.hub_model_id or Path(args.output_dir).absolute().name
        return cls(repo_id, args.hub_revision or "main", args.hub_private_repo, args.hub_token)


def client_of(target: HubTarget) -> HfApi:
    """A client of the Hub with the target's token."""
    return HfApi(token=target.token, library_name="hf_bnvae", library_version=__version__)


def with_whole_name(target: HubTarget) -> HubTarget:
    """
    The target with the whole name of its repository: a name alone is one of the token's user.

    Raises:
        HubError: without a token.
        HFValidationError: for a name that is not valid.
    """
    validate_repo_id(target.repo_id)
    if not (get_token() if target.token is None else target.token):
        raise HubError(
            "There is no token to push with. Make a token with write permission at "
            "https://huggingface.co/settings/tokens. Log in with `hf auth login`, or pass the token as an argument."
        )
    if "/" in target.repo_id:
        return target
    return replace(target, repo_id=f"{client_of(target).whoami()['name']}/{target.repo_id}")


@contextmanager
def explained(target: HubTarget, outcome: str = "") -> Iterator[None]:
    """Turn a refusal of the Hub or a failed connection into a [`HubError`]. The message says what to do, and ends with
    `outcome`."""
    try:
        yield
        return
    except HubError as error:
        message, cause = str(error), error
    except (HTTPError, OSError, RuntimeError, HFValidationError) as error:
        # If an upload fails in a thread, the error is wrapped in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, (HTTPError, OSError, HFValidationError)):
            raise
        message = _explanation(cause, target)
    raise HubError(f"{message} {outcome}".strip()) from cause


def _explanation(error: BaseException, target: HubTarget) -> str:
    name = target.repo_id
    where = f" {name} is also a folder here, but a name on the Hub is needed." if name and Path(name).exists() else ""
    if isinstance(error, HFValidationError):
        return f"{name!r} is no name of a repository: user/name, of letters, digits, '-', '_' and '.'.{where}"
    if isinstance(error, OfflineModeIsEnabled):
        return "The Hub was not asked, since HF_HUB_OFFLINE is set. Unset this variable to push."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status == 401:
        return f"The Hub does not accept the token (401: {_reason_given(error)}). Log in again: `hf auth login`."
    if status == 403:
        return (
            f"The token may not write to {name} (403: {_reason_given(error)}). Use a token with write permission, of "
            f"a user who may write there, or another name.{where}"
        )
    if status == 412:
        return f"Somebody else changed {target.branch} of {name} meanwhile."
    if status is not None:
        return f"The Hub refused to take {name} ({status}: {_reason_given(error)})."
    what = "The connection to the Hub" if isinstance(error, HTTPError) else "The upload"
    return f"{what} failed ({type(error).__name__}: {_reason_given(error)})."


def _reason_given(error: BaseException) -> str:
    said = getattr(error, "server_message", None) or str(error)
    return next((line.strip(" .") for line in said.splitlines() if line.strip()), "no reason given")
