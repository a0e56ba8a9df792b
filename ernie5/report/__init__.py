"""The page that tells a run: read what the folder holds, draw it, write one self-contained report.html."""
