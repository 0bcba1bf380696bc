"""The hub: archives, pages and Kaggle's metadata. Imports `tree`."""
