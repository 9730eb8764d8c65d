"""Queries of VNN-LIB 1.0, as VNN-COMP asks them: is there an input in these boxes whose outputs satisfy these constraints?"""
