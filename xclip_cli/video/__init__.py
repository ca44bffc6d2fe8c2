"""Video files to frames, in worker processes. Never imports torch or the model.

``pool`` is the one door: what it is asked for and gives are plain data of ``sampling`` and ``limits``.
"""
