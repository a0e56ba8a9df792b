"""The DeepSpeed engine: ZeRO 0-3. DeepSpeed is imported by the modules below, never by the rest of the library."""
