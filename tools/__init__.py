"""What turns the sources of the book into its products. See CONTRIBUTING.md."""
