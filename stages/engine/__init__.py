"""How stages are run: folds side by side in workers, cores shared, a whole study at once."""
