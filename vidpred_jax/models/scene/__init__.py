"""What is remembered of a clip's objects and background, and how it goes on."""
