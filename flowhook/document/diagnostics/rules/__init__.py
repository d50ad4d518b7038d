"""Checks of a document beyond its shape: names that refer to something, expressions that compile.

`workflow.check_rules` is the entry point. The rules walk the plain tree, not the models, so that they work on a
document whose shape is wrong elsewhere. They skip values of the wrong type, which `shapes` reports.
"""
