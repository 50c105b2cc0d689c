"""What every benchmark uses: problems, programs, contestants, timing, tables and pages."""
