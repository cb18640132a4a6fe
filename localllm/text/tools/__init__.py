"""Tool calls as families of models write them. One file per family; which one a model uses its chat template tells.

A format is read (text to calls, as it arrives), written (calls to text) and demanded (a grammar that allows nothing
else). Knows templates' text and JSON, no tokens and no sampling.
"""
