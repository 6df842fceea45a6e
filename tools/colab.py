"""Colab export."""
def export():
    pass
