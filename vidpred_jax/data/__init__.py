"""Video files, labels, fusion maps and data sets: everything that is read before a network runs."""
