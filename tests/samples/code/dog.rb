# A dog barks.
class Dog < Animal
  # Says woof.
  def bark(times)
    # inner
    puts "woof" * times
  end
end
