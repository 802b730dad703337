"""Where frames come from: files, folders, cameras, addresses, standard input."""
