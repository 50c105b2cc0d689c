"""seqcells beside its peers."""
