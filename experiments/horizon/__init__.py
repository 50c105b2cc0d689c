"""Parts of the study `experiments.studies.horizon`."""
