"""A client of MCP servers: which there are, their connections and tools. Whom they are lent to others decide."""
