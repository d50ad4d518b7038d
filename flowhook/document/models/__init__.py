"""Models of the keys of a flow file, under the DSL's names: immutable, they evaluate nothing."""
