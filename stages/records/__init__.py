"""What is kept of a finished study, and the results page made from it."""
