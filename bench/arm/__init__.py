"""What an inference costs on ARM cores that are not here: instructions counted under qemu-user, cycles predicted by llvm-mca."""
