"""How the bundled embedder is built."""
