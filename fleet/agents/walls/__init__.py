"""The walls round an attempt. Standard library only: what is here also runs on a machine that has nothing else."""
