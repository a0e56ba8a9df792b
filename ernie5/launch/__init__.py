"""Starting the processes of a run, here or through Slurm, and looking after them."""
