"""Finding tools, checking arguments, and what each tool card says. The built-in ones are in `builtin`."""
