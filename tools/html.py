"""A Sphinx extension: what the pages of the book have beyond Jupyter Book."""


def setup(app):
    return {"version": "1", "parallel_read_safe": True}
