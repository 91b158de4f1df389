"""Between the classifier and training: parameters, checks, tables, and the fitted state."""
