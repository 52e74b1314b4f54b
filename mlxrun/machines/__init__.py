"""One model on several machines: each has some of its layers, and rows go round from one to the next."""
