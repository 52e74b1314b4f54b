"""What bench/engine.py stands on: what an engine is asked and tells (`asked`), ours in this process (`ours`),
llama-server over HTTP (`server`), and one file for each kind of scene."""
