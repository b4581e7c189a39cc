"""What learns: models, losses, optimizers, schedules. Each file ends with the table of what it offers."""
