"""What is missing in recordings that promise nothing: MPEG-TS, FLV, raw H.264 and H.265."""
