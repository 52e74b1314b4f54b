"""Tools of MCP servers, lent to chats that ask for them: which servers, their connections, an answer in rounds."""
