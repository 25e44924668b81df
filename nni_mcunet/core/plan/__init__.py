"""Plan an inference: where it runs in patches, what is alive when, where it lies, what it costs. No torch, no C."""
