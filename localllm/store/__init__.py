"""What is on disk: models, how they get there, and what their files say. Loads no model and imports no engine."""
