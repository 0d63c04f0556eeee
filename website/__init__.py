"""The site: pages made from the committed results by `python -m website`, and built by Sphinx."""
