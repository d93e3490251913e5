"""The baselines as the project itself measured them: made by ``make baselines``."""
