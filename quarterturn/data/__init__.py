"""Tables of images, the pixel store, and the examples that trainings draw from them."""
