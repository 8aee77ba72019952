"""Rendered street scenes with exact labels, in the CamVid class set, with OpenCV and NumPy alone.

`renderer.render_drive` and `renderer.render_frame` are the way in. A frame is made in four steps, each in
its own module: a seeded world (`scene`), painted from far to near (`painter` and one module a kind of
thing), seen through a camera and its sensor (`camera`, `sensor`), and reduced to image and label.
"""
