"""Photos: found, split by person, decoded once, augmented and put into batches. No model and no metric belongs here."""
