"""An adapter's files -> what it changes of a model's weights, by their canonical names. Knows no block, no request."""
