# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Names of the files in the folders of a run and of a checkpoint."""

# A run's settings, and whether it has finished.
RUN_FILE = "run.json"
PARTIAL_RUN_FILE = "run.json.partial"
# Locked by the process that trains in the folder.
LOCK_FILE = "run.lock"
# Written by a finished run.
RESULTS_FILE = "all_results.json"
EXAMPLES_FILE = "examples.json"
# Written by every evaluation: at the end of a run, and by `hf-bnvae evaluate`.
REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"
# Lists the files of a checkpoint with their sizes.
CONTENTS_FILE = "contents.json"
# The auxiliary of a training, in its checkpoints.
AUXILIARY_FILE = "auxiliary.safetensors"
