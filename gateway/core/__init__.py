"""What is true without a socket: no I/O, no clock, no globals, no event loop; imports only itself."""
