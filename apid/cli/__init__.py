"""The composition root: the programs apid and apidctl."""
