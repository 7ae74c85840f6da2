"""Records become tables, pictures and one page; nothing here measures."""
