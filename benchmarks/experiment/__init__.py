"""Whether Net2Net pays: teachers and students trained on scikit-learn's digits."""
