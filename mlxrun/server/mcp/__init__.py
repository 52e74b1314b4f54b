"""Tools of MCP servers, lent to chats that ask for them: to whom, and an answer in rounds."""
