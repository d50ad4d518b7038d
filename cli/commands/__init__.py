"""One module per command or family of commands; `cli.app` adds each of them to the command tree."""
