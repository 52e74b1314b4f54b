"""Speculation: tokens that may come next, checked in one pass. What is proposed never changes an answer."""
