"""One module per command or family of commands; each adds itself to the tree in `cli.app`."""
