"""The semantic cache: repeated and paraphrased questions answered from what was answered before."""
