"""What is wrong with a flow file, and where: the reading of its text, shapes, rules beyond shapes, warnings."""
