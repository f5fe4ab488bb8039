"""What measures. The only folder that imports torch or fvcore."""
