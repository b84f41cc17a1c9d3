"""Log files that one run writes over several processes: what is logged again after a resume is in them once."""
