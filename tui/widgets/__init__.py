"""Parts of a screen: they post small messages up and read data down, and know no client and no session."""
