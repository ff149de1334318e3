"""What the commands in datasets/ share: archives, work over all cores, the folder that is filled, annotations."""
